//! Sealing in the running service: in the background, switched off, without space, and with the process killed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::stage::{END, Stage};
use crate::support::http::Http;
use crate::support::parts;
use crate::support::process::{Service, ServiceOptions};
use crate::support::wait::wait_for;

/// A stage whose service makes small segments, and seals them or not.
struct Sealed {
    stage: Stage,
    config: PathBuf,
}

impl Sealed {
    fn new(name: &str) -> Self {
        let stage = Stage::new(name);
        let config = stage.scratch.join("govledger.toml");
        Self { stage, config }
    }

    fn configure(&self, seal: bool, options: ServiceOptions) -> ServiceOptions {
        std::fs::write(&self.config, format!("[segments]\nbytes_max = 20000\nseal = {seal}\n")).unwrap();
        let mut options = options;
        options.arguments.extend([OsString::from("--config"), self.config.clone().into()]);
        options
    }

    fn start(&self, seal: bool) -> (Service, Http) {
        let service = Service::start(self.configure(seal, self.stage.options()));
        let http = self.stage.owner(&service);
        (service, http)
    }

    /// Sends so many batches of some four kilobytes.
    fn fill(&mut self, http: &Http, batches: u32) {
        for _ in 0..batches {
            assert_eq!(self.stage.send(http, 30).unwrap().0, 200);
        }
    }

    /// The segments of the metrics ledger in this form.
    fn count(&self, form: &str) -> usize {
        let segments = std::fs::read_dir(self.stage.data.join("metrics-0/segments")).unwrap();
        let is_of = |path: PathBuf| path.extension().is_some_and(|found| found == form);
        segments.filter(|file| is_of(file.as_ref().unwrap().path())).count()
    }

    fn wait_sealed(&self) {
        wait_for("all segments but the last sealed", END, || {
            (self.count("segment") == 1 && self.count("sealed") > 3 && self.count("sealing") == 0).then_some(())
        });
    }
}

/// A figure of the metrics page.
fn figure(http: &Http, name: &str) -> f64 {
    let page = http.get("/metrics").expect(200).text();
    let line = format!("{name}{{ledger=\"metrics-0\"}} ");
    page.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or_default()
}

#[test]
fn full_segments_are_sealed_while_the_service_runs_and_others_read() {
    let mut sealed = Sealed::new("sealing");
    let (mut service, http) = sealed.start(true);
    Stage::publish(&http);
    // Another process verifies while segments are replaced under it.
    for _ in 0..5 {
        sealed.fill(&http, 8);
        sealed.stage.verify();
    }
    sealed.wait_sealed();
    wait_for("the figures of sealing", END, || {
        let is_there = figure(&http, "govledger_segments_sealed_total") > 3.0;
        (is_there && figure(&http, "govledger_segments_waiting") < 1.0).then_some(())
    });
    assert!(figure(&http, "govledger_sealing_failures_total") < 1.0);
    sealed.stage.verify();
    sealed.fill(&http, 20);
    // In the midst of it, or not: nothing depends on when.
    service.kill9();
    assert!(service.log().contains("segment.sealed"), "{}", service.log());
    drop(service);
    sealed.stage.verify();
    sealed.stage.recover();
    let (mut service, _) = sealed.start(true);
    sealed.wait_sealed();
    assert_eq!(service.terminate(), 0);
    sealed.stage.verify();
}

#[test]
fn sealing_is_switched_off_and_made_up_for_later() {
    let mut sealed = Sealed::new("sealing-off");
    let (mut service, http) = sealed.start(false);
    sealed.fill(&http, 30);
    // Longer than it is looked for segments.
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(sealed.count("sealed"), 0);
    assert!(sealed.count("segment") > 3);
    assert_eq!(service.terminate(), 0);
    let (mut service, _) = sealed.start(true);
    sealed.wait_sealed();
    assert_eq!(service.terminate(), 0);
    sealed.stage.verify();
}

#[test]
fn sealing_without_space_stops_nobody() {
    if parts::strace().is_none() {
        return;
    }
    let mut sealed = Sealed::new("sealing-full");
    let sealing = sealed.stage.data.join("metrics-0/segments/00000000000000000000.sealing");
    let path = sealing.display().to_string();
    let first = ["-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e", "trace=pwrite64", "-e"];
    let first = [&first[..], &["inject=pwrite64:error=ENOSPC", "-P", &path]].concat();
    let mut service = Service::start(sealed.configure(true, sealed.stage.options_under("strace", &first)));
    let http = sealed.stage.owner(&service);
    sealed.fill(&http, 10);
    wait_for("a failure to seal", END, || (figure(&http, "govledger_sealing_failures_total") >= 1.0).then_some(()));
    // What was begun is gone, the writer takes more, and everything is read.
    assert!(!sealing.exists());
    sealed.fill(&http, 20);
    assert_eq!(http.get("/readyz").status, 200);
    sealed.stage.verify();
    assert_eq!(service.terminate(), 0);
    assert!(service.log().contains("segment.not_sealed"), "{}", service.log());
    drop(service);
    let (mut service, _) = sealed.start(true);
    sealed.wait_sealed();
    assert_eq!(service.terminate(), 0);
    sealed.stage.verify();
}
