//! The writer stops: whoever is told, or is left without an answer, finds that the service says so already.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use govledger::clock::Clock;
use govledger::domain::leaf::Header;
use govledger::domain::metric::TimeFields;
use govledger::domain::settings::SourceSettings;
use govledger::domain::time::Time;
use govledger::sequencer::{
    Core, DataDir, Handle, Incoming, InitOptions, MetricsChunk, Options, Running, Shared, SubmitError, start,
};

use super::disk::FailingDisk;

const RECORD: &str = r#"{"event":"llm.request","model":"m","engine_hash":"sha256:93","duration_ms":49.8}"#;

/// What the service said of itself at the very moment when the caller was woken.
struct Woken {
    shared: Arc<Shared>,
    is_called: AtomicBool,
    was_stopped: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.was_stopped.store(self.shared.is_poisoned(), Ordering::SeqCst);
        self.is_called.store(true, Ordering::SeqCst);
    }
}

struct Stage {
    running: Running,
    handle: Handle,
    disk: FailingDisk,
    _scratch: tempfile::TempDir,
}

fn stage() -> Stage {
    let scratch = tempfile::tempdir().unwrap();
    let (root, now) = (scratch.path().join("data"), Time::from_seconds(1_790_000_000));
    let options = InitOptions {
        node: "n1".to_owned(),
        source: SourceSettings::Embedded,
        admin: "ada".to_owned(),
        settings: None,
        further_node_keys: Vec::new(),
        now,
    };
    DataDir::init(&root, options).unwrap();
    let (disk, clock) = (FailingDisk::new(), Clock::manual(now));
    let data_dir = DataDir::open(&root).unwrap().on(Arc::new(disk.clone()));
    let core = Core::open(data_dir.clone(), TimeFields::default()).unwrap();
    let running = start(core, Options { live_cuts: false, clock: clock.clone(), policy: None }).unwrap();
    let handle = Handle::new(&running, data_dir, clock, TimeFields::default(), None).unwrap();
    Stage { running, handle, disk, _scratch: scratch }
}

type Asked<'a> = Pin<Box<dyn Future<Output = Result<(), SubmitError>> + 'a>>;

/// Asks on a disk that fails from now on.
fn check(what: &str, ask: impl for<'a> FnOnce(&'a Handle) -> Asked<'a>) {
    let stage = stage();
    stage.disk.fail_after(0, false);
    let woken = Arc::new(Woken {
        shared: Arc::clone(stage.handle.shared()),
        is_called: AtomicBool::new(false),
        was_stopped: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut asked = ask(&stage.handle);
    // Where the writer is faster than this thread the answer is there at once, and nobody is woken.
    let mut poll = || asked.as_mut().poll(&mut context);
    let answer = match poll() {
        Poll::Ready(answer) => {
            assert!(stage.handle.shared().is_poisoned(), "{what}: answered before the service says that it stopped");
            answer
        }
        Poll::Pending => {
            while !woken.is_called.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_micros(50));
            }
            assert!(woken.was_stopped.load(Ordering::SeqCst), "{what}: told before the service says that it stopped");
            let Poll::Ready(answer) = poll() else { panic!("{what}: woken for nothing") };
            answer
        }
    };
    assert!(matches!(answer, Err(SubmitError::Stopped(_))), "{what}: {answer:?}");
    drop(asked);
    drop(stage.handle);
    assert!(stage.running.stop().is_err(), "{what}: the writer ended well");
}

#[test]
fn nobody_learns_of_the_stop_before_the_service_says_so() {
    check("events", |handle| {
        let items = vec![Incoming { header: Header::default(), body: br#"{"event_type":"note"}"#.to_vec() }];
        Box::pin(async move { handle.append_events(items).await.map(|_| ()) })
    });
    check("records", |handle| {
        let mut chunk = MetricsChunk::default();
        handle.prepare().push(&mut chunk, Header::at(handle.now()), RECORD.as_bytes()).unwrap().unwrap();
        Box::pin(async move { handle.append_metrics(0, chunk).await.map(|_| ()) })
    });
    check("a file", |handle| {
        let file = govledger::domain::event::FileRegistered {
            file: 1,
            ledger: "metrics-0".to_owned(),
            name: "x".to_owned(),
            first_line_sha256: "00".repeat(32),
        };
        Box::pin(async move { handle.register_file(file, handle.now()).await.map(|_| ()) })
    });
    check("a partition", |handle| Box::pin(handle.ensure_metrics(7)));
}
