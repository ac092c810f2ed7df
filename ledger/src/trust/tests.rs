use std::fmt::Write as _;

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
