//! The service as it is run: what it scrapes, what it refuses, and what it says of a server that does not answer.

use std::time::Duration;

use super::*;
use crate::support::http::Http;
use crate::support::process::{Service, ServiceOptions, free_port, govledger};
use crate::support::wait::wait_for;

const SOON: Duration = Duration::from_secs(30);

/// A service that scrapes one server every second.
struct Served {
    scratch: Scratch,
    triton: Triton,
    http: Http,
    _service: Service,
}

impl Served {
    fn start() -> Self {
        let scratch = Scratch::new("capacity-service");
        let triton = Triton::start();
        triton.serve(Page::Text(page("inflight-batcher")));
        let port = free_port();
        let data = text(&scratch.join("data"));
        govledger(&["--data", &data, "init", "--node", "test", "--token-out", &text(&scratch.join("token"))]).expect(0);
        let table = format!(
            "open_reads = true\n[[triton]]\nstack = {STACK:?}\nurl = {:?}\ninterval_seconds = 1\ntimeout_seconds = 1\nbody_bytes_max = 20000\n",
            triton.url()
        );
        let config = text(&scratch.write("config.toml", table));
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["--data", &data, "--config", &config, "serve", "--listen", &listen];
        let service = Service::start(ServiceOptions::new(arguments.map(str::to_owned), port));
        Self { http: service.http(), scratch, triton, _service: service }
    }

    /// The value of the first series of `/metrics` that begins so.
    fn metric(&self, wanted: &str) -> Option<String> {
        let page = self.http.get("/metrics").text();
        let line = page.lines().find(|line| line.starts_with(wanted))?;
        line.rsplit(' ').next().map(str::to_owned)
    }

    fn count(&self, outcome: &str) -> u64 {
        let url = self.triton.url();
        let name = format!("govledger_scrapes_total{{stack=\"{STACK}\",instance=\"{url}\",outcome=\"{outcome}\"}}");
        self.metric(&name).map_or(0, |value| value.parse().unwrap())
    }

    fn is_up(&self, up: bool) {
        let wanted = if up { "1.0" } else { "0.0" };
        wait_for("the gauge", SOON, || (self.metric("govledger_scrape_up").as_deref() == Some(wanted)).then_some(()));
    }

    /// Serves a page that does not count: readiness has to say why, and to stay.
    fn fails(&self, page: Page, reason: &str) {
        self.triton.serve(page);
        let ready = wait_for(reason, SOON, || {
            let ready = self.http.get("/readyz").expect(200).json();
            let said = ready["failing_scrapes"][format!("{STACK} {}", self.triton.url())].as_str()?.to_owned();
            said.contains(reason).then_some(ready)
        });
        assert_eq!(ready["ready"], true, "a server that is not scraped makes nothing unready");
        self.is_up(false);
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_service_scrapes_and_says_where_it_cannot() {
    let served = Served::start();
    wait_for("two scrapes", SOON, || (served.count("recorded") >= 2).then_some(()));
    assert_eq!(served.http.get("/readyz").expect(200).json()["failing_scrapes"], Value::Null);
    let first = &served.http.get("/v1/entries?ledger=metrics-0&after=0").expect(200).json()["entries"][0];
    let (kind, stack) = (&first["type"], &first["stack"]);
    assert_eq!(
        (kind, stack, &first["verdict"]),
        (&"triton.scrape".into(), &STACK.into(), &"admitted".into()),
        "{first:#}"
    );

    served.fails(Page::Status(503), "answers 503");
    served.fails(Page::Text("x".repeat(20_001)), "larger than 20000 bytes");
    served.fails(Page::Slow, "no answer");
    assert!(served.count("failed") >= 3);
    assert_eq!(served.count("refused"), 0);
    served.fails(Page::Text("<html>who are you</html>".to_owned()), "wrong_type");
    let wrong = page("llm-api").replace("21474836480.000000", "lots");
    served.fails(Page::Text(wrong), "`nv_gpu_memory_used_bytes` is lots");
    let rejected = served.http.get("/v1/rejected?ledger=metrics-0").expect(200).json();
    let rows = rejected["rejected"].as_array().unwrap();
    let is_there = |field: &str, part: &str| {
        let says =
            |row: &Value| row["refusal"]["field"] == field && row["refusal"]["detail"].as_str().unwrap().contains(part);
        assert!(rows.iter().any(says), "{rejected:#}");
    };
    is_there("text", "<html>who are you</html>");
    is_there("nv_gpu_memory_used_bytes", "lots");

    served.triton.serve(Page::Text(page("llm-api")));
    served.is_up(true);
    assert_eq!(served.http.get("/readyz").expect(200).json()["failing_scrapes"], Value::Null);
    // Nobody has published anything: the scrapes are there all the same, and the report says so.
    let report = wait_for("a cut", SOON, || {
        let answer = served.http.get(&format!("/v1/stacks/{STACK}/capacity"));
        (answer.status == 200).then(|| answer.json()).filter(|answer| answer["servers"]["vram"]["now"] == "0.75")
    });
    assert_eq!(report["servers"]["last"][0]["gpu_total_bytes"], GPU_BYTES, "{report:#}");
    let shown = govledger(&["--data", &text(&served.scratch.join("data")), "capacity", STACK]).expect(0);
    assert!(shown.stdout.contains("GPU memory free: 0.75 now"), "{}", shown.stdout);
}
