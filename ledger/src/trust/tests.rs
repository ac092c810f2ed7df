use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::{
    checkpoint::Checkpoint,
    key::LedgerKey,
    note::{NoteError, cosign},
    tree::EMPTY_ROOT,
};

fn witness_key(seed: u8) -> VerifierKey {
    VerifierKey::new(&format!("w{seed}.example"), KeyKind::Cosignature, LedgerKey::generate([seed; 32]).public())
        .unwrap()
}

fn log_key() -> VerifierKey {
    LedgerKey::generate([99; 32]).verifier_key("node/governance")
}

/// Five witnesses in two groups under a third, as in the specification's example.
fn example() -> String {
    let mut text = format!("# auditors\n\nlog {} https://log.example/\n", log_key());
    for seed in 1..=5 {
        writeln!(text, " witness\tw{seed}  {}", witness_key(seed)).unwrap();
    }
    text + "group x 2 w1 w2 w3\n\t# two organisations\ngroup y any w4 w5\ngroup both all x y\nquorum both\n"
}

#[test]
fn a_file_is_read_and_written_back() {
    let policy = TrustPolicy::parse(example().as_bytes()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len(), policy.quorum()), (1, 5, Some("both")));
    assert_eq!(policy.groups()[0].threshold, Threshold::Count(2));
    let written = policy.to_string();
    assert!(written.ends_with("group x 2 w1 w2 w3\ngroup y any w4 w5\ngroup both all x y\nquorum both\n"), "{written}");
    assert_eq!(written.parse::<TrustPolicy>(), Ok(policy));
    // Without any log and witness: only the quorum is needed.
    assert_eq!("quorum none".parse::<TrustPolicy>().unwrap().to_string(), "quorum none\n");
}

/// Every subset of the witnesses, counted here in another way.
#[test]
fn the_quorum_is_met_by_the_right_subsets_alone() {
    let policy: TrustPolicy = example().parse().unwrap();
    let key = LedgerKey::generate([99; 32]);
    for mask in 0_u32..32 {
        let mut signed = Checkpoint { origin: "node/governance".into(), size: 7, root: EMPTY_ROOT }.sign(&key);
        for seed in (1_u8..=5).filter(|seed| mask >> (seed - 1) & 1 == 1).rev() {
            let name = format!("w{seed}.example");
            let line = cosign(signed.body(), &name, &LedgerKey::generate([seed; 32]), u64::from(seed));
            signed.add_signature(&line.to_string()).unwrap();
        }
        let weighed = policy.weigh(&signed, &log_key()).unwrap();
        let expected = (mask & 0b111).count_ones() >= 2 && mask >> 3 != 0;
        assert_eq!(weighed.is_met(), expected, "{mask:05b}: {:?}", weighed.shortfalls);
        let seeds: Vec<u64> = (1..=5).filter(|seed| mask >> (seed - 1) & 1 == 1).collect();
        assert_eq!(weighed.cosigners.iter().map(|cosigner| cosigner.time_s).collect::<Vec<_>>(), seeds);
    }
}

#[test]
fn what_is_missing_is_named_down_to_the_witness() {
    let policy: TrustPolicy = example().parse().unwrap();
    let said = |cosigned: &[&str]| {
        let lacks = policy.shortfalls(&cosigned.iter().copied().collect());
        lacks.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(said(&["w1", "w3", "w5"]), Vec::<String>::new());
    assert_eq!(said(&["w1", "w4"]), ["both needs 2 and has 1: missing x", "x needs 2 and has 1: missing w2, w3"]);
    let alone: TrustPolicy = format!("witness w1 {}\nquorum w1\n", witness_key(1)).parse().unwrap();
    let lacks = alone.shortfalls(&BTreeSet::new());
    assert_eq!(lacks[0].to_string(), "w1 needs 1 and has 0: missing w1");
}

#[test]
fn a_cosignature_that_fails_spoils_the_checkpoint() {
    let policy: TrustPolicy = example().parse().unwrap();
    let key = LedgerKey::generate([99; 32]);
    let mut signed = Checkpoint { origin: "node/governance".into(), size: 7, root: EMPTY_ROOT }.sign(&key);
    // Signed over another checkpoint.
    let line = cosign("node/governance\n8\n", "w1.example", &LedgerKey::generate([1; 32]), 5);
    signed.add_signature(&line.to_string()).unwrap();
    assert_eq!(policy.weigh(&signed, &log_key()), Err(NoteError::Signature { name: "w1.example".into() }));
}

#[test]
fn bad_lines_are_named() {
    let (w1, w2) = (witness_key(1), witness_key(2));
    let start = format!("witness w1 {w1}\nwitness w2 {w2}\n");
    let check = |lines: &str, line: usize, expected: &str| {
        let error = TrustPolicy::parse(format!("{start}{lines}").as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line} ")) && error.contains(expected), "{lines:?}: {error}");
    };
    check("witness w1 x\n", 3, "is not a verifier key");
    check(&format!("witness w1 {}\n", witness_key(3)), 3, "\"w1\" is defined already");
    check(&format!("witness w3 {w1}\n"), 3, "is there already");
    check(&format!("witness w3 {}\n", log_key()), 3, "a key of another kind");
    check(&format!("log {w1}\n"), 3, "a key of another kind");
    check(&format!("log {0}\nlog {0}\n", log_key()), 4, "is there already");
    check(&format!("witness none {}\n", witness_key(3)), 3, "cannot be the name");
    check("witness w3\n", 3, "it is `witness NAME VKEY [URL]`");
    check("group g any\n", 3, "of 0 members");
    check("group g\n", 3, "it is `group NAME");
    check("group g 3 w1 w2\n", 3, "\"3\" of 2 members");
    check("group g 0 w1\n", 3, "\"0\" of 1 members");
    check("group g 01 w1\n", 3, "\"01\" of 1 members");
    check("group g some w1\n", 3, "\"some\" of 1 members");
    check("group g all w1 w3\n", 3, "\"w3\" is no witness or group");
    check("group g all none\n", 3, "\"none\" is no witness or group");
    check("group g all g\n", 3, "\"g\" is no witness or group");
    check("group g all w1 w1\n", 3, "\"w1\" is a member already");
    check("group g all w1\ngroup h all w1\n", 4, "\"w1\" is a member already");
    check("quorum w3\n", 3, "\"w3\" is no witness or group");
    check("quorum none\nquorum w1\n", 4, "this is another");
    check("quorum\n", 3, "it is `quorum NAME`");
    check("trust w1\n", 3, "a line begins with");
    check("\n# c\nquorum w1\r\n", 5, "control character");
    assert_eq!(TrustPolicy::parse(start.as_bytes()), Err(TrustError::NoQuorum));
    assert_eq!(TrustPolicy::parse(b"quorum \xff"), Err(TrustError::Text));
    assert_eq!(TrustPolicy::parse(&vec![b'\n'; 300_000]), Err(TrustError::TooLong(300_000)));
    let mut many = String::new();
    (0..=TRUST_ITEMS_MAX).for_each(|n| writeln!(many, "group g{n} any {}", member(n)).unwrap());
    check(&many, TRUST_ITEMS_MAX + 3, "more than 64 of its kind");
}

/// A chain of groups: each is the member of the next.
fn member(n: usize) -> String {
    n.checked_sub(1).map_or_else(|| "w1".to_owned(), |before| format!("g{before}"))
}

/// Whether a name has witnessed, from the quorum down: another way than that of the code.
fn witnessed(policy: &TrustPolicy, name: &str, cosigned: &BTreeSet<&str>) -> bool {
    let Some(group) = policy.groups().iter().find(|group| group.name == name) else { return cosigned.contains(name) };
    let found = group.members.iter().filter(|member| witnessed(policy, member, cosigned)).count();
    match group.threshold {
        Threshold::Any => found > 0,
        Threshold::All => found == group.members.len(),
        Threshold::Count(count) => found >= count,
    }
}

/// Any policy of six witnesses: each choice takes some of the names that are in no group yet and makes a group of them.
fn any_policy() -> impl Strategy<Value = TrustPolicy> {
    proptest::collection::vec((any::<u8>(), 0_u8..4, any::<u8>()), 0..5).prop_map(|choices| {
        let mut policy = TrustPolicy::default();
        (1..=6).for_each(|seed| policy.add_witness(&format!("w{seed}"), witness_key(seed), None).unwrap());
        let mut free: Vec<String> = (1..=6).map(|seed| format!("w{seed}")).collect();
        for (index, (mask, kind, count)) in choices.into_iter().enumerate() {
            let (members, rest): (Vec<_>, Vec<_>) =
                free.into_iter().enumerate().partition(|(at, _)| mask >> (at % 8) & 1 == 1);
            free = rest.into_iter().map(|(_, name)| name).collect();
            let members: Vec<&str> = members.iter().map(|(_, name)| name.as_str()).collect();
            if members.is_empty() {
                continue;
            }
            let threshold = match kind {
                0 => Threshold::Any,
                1 => Threshold::All,
                _ => Threshold::Count(usize::from(count) % members.len() + 1),
            };
            policy.add_group(&format!("g{index}"), threshold, &members).unwrap();
            free.push(format!("g{index}"));
        }
        policy.set_quorum(free.last().map_or(NO_QUORUM, String::as_str)).unwrap();
        policy
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_policy_is_weighed_as_its_groups_say_and_reads_back(policy in any_policy()) {
        prop_assert_eq!(policy.to_string().parse::<TrustPolicy>(), Ok(policy.clone()));
        let names: Vec<String> = (1..=6).map(|seed| format!("w{seed}")).collect();
        for mask in 0_u32..64 {
            let cosigned: BTreeSet<&str> =
                names.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, name)| name.as_str()).collect();
            let expected = policy.quorum().is_none_or(|quorum| witnessed(&policy, quorum, &cosigned));
            prop_assert_eq!(policy.shortfalls(&cosigned).is_empty(), expected, "{}{:?}", policy, cosigned);
        }
    }

    /// Lines of the right words in any order: read or refused with the line's number, and never anything else.
    #[test]
    fn words_in_any_order_are_read_or_refused(
        words in proptest::collection::vec(
            prop::sample::select(vec![
                "log", "witness", "group", "quorum", "none", "any", "all", "1", "2", "w1", "w2", "g", "#", "\n", "\n", "\n", "VKEY", "LOG",
            ]),
            0..40,
        ),
    ) {
        let text = words.join(" ").replace("VKEY", &witness_key(1).to_string()).replace("LOG", &log_key().to_string());
        match text.parse::<TrustPolicy>() {
            Ok(policy) => prop_assert_eq!(policy.to_string().parse::<TrustPolicy>(), Ok(policy)),
            Err(TrustError::Line { line, .. } | TrustError::Item { line, .. }) => {
                prop_assert!((1..=text.split('\n').count()).contains(&line));
            }
            Err(error) => prop_assert_eq!(error, TrustError::NoQuorum),
        }
    }
}
