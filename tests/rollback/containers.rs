//! Containers of one host that share its name: they number their processes each for themselves, so that none can tell whether a
//! process of another one still runs.

use std::process::Command;

use crate::shop::{LIMIT, Shop, fails};
use crate::support::guarded::Guarded;
use crate::support::process::finish;
use crate::support::wait::wait_for;

/// A namespace of process ids with the host's name, as in a container on the host's network.
const CONTAINER: [&str; 5] = ["--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];

fn contained(command: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(CONTAINER).arg(command.get_program()).args(command.get_args());
    unshare.current_dir(command.get_current_dir().unwrap());
    unshare
}

#[test]
fn a_run_in_another_container_is_taken_over_only_on_somebodys_word() {
    // Where no namespace may be made there is only the unit test of the decision.
    if finish(Command::new("unshare").args(CONTAINER).arg("true")).code != 0 {
        return;
    }
    let shop = Shop::new("rollback-containers", 1_003);
    let (reload, check) = (shop.reload(), shop.check());
    let waits = "touch waiting; while [ ! -e go ]; do sleep 0.1; done";
    let first = contained(&shop.run("ann", &[], &reload, &check, waits));
    let mut first = Guarded::start(&first, &shop.scratch.join("first.log"));
    wait_for("the first one's warm-up", LIMIT, || shop.scratch.join("waiting").exists().then_some(()));

    // From the host, and from a container where a process has the same number.
    let mut bob = shop.run("bob", &[], &reload, &check, "exit 0");
    for second in [finish(&mut contained(&bob)), finish(&mut bob)] {
        let second = second.expect(10);
        fails(&second, "ann holds the rollback");
        fails(&second, "--take-over");
    }
    shop.scratch.write("go", "");
    assert_eq!(first.wait(LIMIT), Some(0), "{}", first.log());
    assert_eq!((shop.count("llm_rollback_claimed"), shop.count("llm_rollback_completed")), (1, 1));
}
