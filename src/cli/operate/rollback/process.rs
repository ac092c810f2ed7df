//! Which process holds a rollback, as its host knows it, and whether the one that claimed is gone.
//!
//! A process id means something only within one boot of one kernel and one namespace of process ids: containers on one host may
//! share its name and its boot and still number their processes each for themselves. So a claim carries all of it, and of a
//! process in another boot or namespace nothing can be told from here, also not that it is gone: another machine may have the
//! same name. Then somebody has to say so, with `--take-over`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Pid, test_kill_process};

/// This process: its id and its start, which no later one of that id shares, and where both count. Where `/proc` does not tell
/// that, the id alone, of which nobody else can tell anything.
pub(super) fn this() -> String {
    let pid = std::process::id();
    let told = || Some(format!("pid {pid} begun {} {}", begun(pid)?, numbering()?));
    told().unwrap_or_else(|| format!("pid {pid}"))
}

/// Whether a process that claimed on this host is known to have ended.
pub(super) fn is_gone(claimed: &str) -> bool {
    numbering().is_some_and(|here| is_gone_from(claimed, &here, has_ended))
}

/// The same, seen from where process ids count as `here` says.
fn is_gone_from(claimed: &str, here: &str, has_ended: impl Fn(u32, &str) -> bool) -> bool {
    let Some((process, there)) = claimed.split_once(" boot ") else { return false };
    if here.strip_prefix("boot ") != Some(there) {
        return false;
    }
    let Some((pid, begun)) = process.strip_prefix("pid ").and_then(|rest| rest.split_once(" begun ")) else {
        return false;
    };
    pid.parse().is_ok_and(|pid| has_ended(pid, begun))
}

/// Where this process's id counts: the boot, and the namespace of process ids.
fn numbering() -> Option<String> {
    // A `/proc` of another namespace tells of other processes under the same numbers.
    let own = fs::read_link("/proc/self").ok()?;
    if own.to_str()?.parse() != Ok(std::process::id()) {
        return None;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    Some(format!("boot {} pids {namespace}", boot.split('-').next()?))
}

/// When a process began, in ticks since the boot.
fn begun(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything; the start is the 20th field after it.
    Some(stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned())
}

fn has_ended(pid: u32, claimed: &str) -> bool {
    if let Some(begun) = begun(pid) {
        return begun != claimed;
    }
    // `/proc` may hide the processes of other users; the kernel still says whether there is one.
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_only_where_its_id_counts() {
        let here = "boot 0a1b2c3d pids 4026531836";
        let gone = |claimed: &str| is_gone_from(claimed, here, |pid, begun| (pid, begun) == (7, "100"));
        assert!(gone("pid 7 begun 100 boot 0a1b2c3d pids 4026531836"));
        assert!(!gone("pid 8 begun 100 boot 0a1b2c3d pids 4026531836"));
        // Another namespace, another boot, one that did not say, and what no host says.
        for claimed in [
            "pid 7 begun 100 boot 0a1b2c3d pids 4026532178",
            "pid 7 begun 100 boot ffffffff pids 4026531836",
            "pid 7 begun 100 boot 0a1b2c3d",
            "pid 7",
            "rollback.py 7",
        ] {
            assert!(!gone(claimed), "{claimed}");
        }
    }

    #[test]
    fn a_process_that_ended_is_told_from_one_that_runs() {
        assert!(!is_gone(&this()));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let of = |begun: &str| format!("pid {} begun {begun} {}", child.id(), numbering().unwrap());
        let claimed = of(&begun(child.id()).unwrap());
        assert!(!is_gone(&claimed));
        // Its number was given to another one.
        assert!(is_gone(&of("1")));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&claimed));
    }
}
