//! The source as a model: partitions with stamps by a leader's clock, and a governance topic that loses no order.

use govledger::domain::time::Time;

/// Splitmix64: every choice of a life comes from its seed.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// The same, for seconds and sums.
    pub(crate) fn upto(&mut self, bound: i64) -> i64 {
        i64::try_from(self.below(bound.unsigned_abs())).unwrap()
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// By the leader's clock.
    pub(crate) stamp: Time,
    /// When it was really appended.
    pub(crate) at: Time,
    /// None: a control record, such as a transaction marker, which no consumer is given.
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) log: Vec<Record>,
    pub(crate) low: u64,
    /// The leader's clock against the true one, milliseconds.
    pub(crate) skew_ms: i64,
    pub(crate) unreachable: bool,
    /// The topic was made anew: whoever looks finds other records under the same offsets, and perhaps fewer.
    pub(crate) recreated: bool,
}

impl Partition {
    pub(crate) fn append(&mut self, now: Time, body: Vec<u8>) {
        self.write(now, Some(body));
    }

    pub(crate) fn write(&mut self, now: Time, body: Option<Vec<u8>>) {
        let stamp = Time::from_micros(now.micros() + self.skew_ms * 1_000);
        self.log.push(Record { stamp, at: now, body });
    }

    pub(crate) fn end(&self) -> u64 {
        self.log.len() as u64
    }

    /// The end that whoever looks is told.
    pub(crate) fn shown_end(&self) -> u64 {
        if self.recreated && self.log.len() % 2 == 1 { self.end() / 2 } else { self.end() }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) governance: Partition,
    pub(crate) metrics: Vec<Partition>,
    /// Reported failed, and delivered at this time all the same.
    late: Vec<(Time, Vec<u8>)>,
}

impl Broker {
    /// A produce to the governance topic: done, done twice, reported failed and done later, or failed. True: confirmed.
    pub(crate) fn produce(&mut self, now: Time, body: &[u8], random: &mut Random) -> bool {
        if self.governance.unreachable {
            return false;
        }
        match random.below(12) {
            0 => {
                self.governance.append(now, body.to_vec());
                self.governance.append(now, body.to_vec());
                true
            }
            1 => {
                self.late.push((now.plus_seconds(random.upto(40)), body.to_vec()));
                false
            }
            2 => false,
            _ => {
                self.governance.append(now, body.to_vec());
                true
            }
        }
    }

    pub(crate) fn deliver_late(&mut self, now: Time) {
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        let due: Vec<(Time, Vec<u8>)> = due;
        for (_, body) in due {
            self.governance.append(now, body);
        }
    }
}
