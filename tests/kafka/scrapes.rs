//! A scrape goes through the metrics topic like any metric event, and every node that reads the topic has it.

#[expect(dead_code, reason = "this test serves pages alone")]
#[path = "../capacity/server.rs"]
mod server;

use govledger::domain::leaf;
use govledger::domain::metric::{self, MetricEvent};
use govledger::ingest::triton::{ScrapeConfig, failing, scrape};

use super::node::{Node, SOON, init};
use super::support::wait::wait_for;
use super::{STACK, Stage};
use server::{Page, Triton, page, with_used};

const USED: u64 = 42_949_672_960;

#[test]
fn a_scrape_goes_through_the_topic() {
    let Some(stage) = Stage::new("scrapes", 1) else { return };
    let second = stage.scratch.join("second");
    init(&second, "b", stage.topics(), Some(&stage.scratch.join("data")));
    let (node, other) = (stage.node(), Node::follow(&second, &stage.config));
    let triton = Triton::start();
    triton.serve(Page::Text(with_used(&page("llm-api"), USED)));
    let config: ScrapeConfig = toml::from_str(&format!("stack = {STACK:?}\nurl = {:?}", triton.url())).unwrap();
    node.block_on(scrape(&config, &node.handle));
    assert_eq!(failing(&node.handle).len(), 0);
    for node in [&node, &other] {
        node.wait_size("metrics-0", 2);
        let entry = node.handle.shared().reader("metrics-0").unwrap().entry(1).unwrap();
        let leaf = leaf::split(&entry).unwrap();
        assert_eq!(leaf.header.offset, Some(0));
        let text = std::str::from_utf8(leaf.body).unwrap();
        let MetricEvent::Scrape(scrape) = metric::parse(text).unwrap() else { panic!("{text}") };
        assert_eq!((&*scrape.stack, scrape.tightest_gpu()), (STACK, Some((USED, 2 * USED))));
        // The cut that brings it is the same for both.
        let share = wait_for("a cut with the scrape", SOON, || {
            let asked = govledger::projection::answers::Asked::Capacity { stack: STACK.to_owned() };
            let answer = node.handle.shared().answer(&asked, node.handle.now()).unwrap().ok()?;
            answer.body["servers"]["vram"]["now"].as_str().map(str::to_owned)
        });
        assert_eq!(share, "0.5");
    }
    other.stop();
    node.stop();
}
