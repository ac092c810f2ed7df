//! A server that serves whatever page the test wants.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is served.
#[derive(Debug, Clone)]
pub(crate) enum Page {
    Text(String),
    Status(u16),
    /// Nothing for five seconds.
    Slow,
}

/// The server; its thread ends with the test's process.
#[derive(Debug)]
pub(crate) struct Triton {
    page: Arc<Mutex<Page>>,
    port: u16,
}

impl Triton {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let page = Arc::new(Mutex::new(Page::Status(404)));
        let served = Arc::clone(&page);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let page = served.lock().unwrap().clone();
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request);
                    let (status, text) = match page {
                        Page::Text(text) => (200, text),
                        Page::Status(status) => (status, String::new()),
                        Page::Slow => {
                            std::thread::sleep(Duration::from_secs(5));
                            return;
                        }
                    };
                    let head = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        text.len()
                    );
                    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
                });
            }
        });
        Self { page, port }
    }

    pub(crate) fn serve(&self, page: Page) {
        *self.page.lock().unwrap() = page;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.port)
    }
}

/// A page of `tests/capacity`.
pub(crate) fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/capacity/{name}.prom"));
    std::fs::read_to_string(path).unwrap()
}

/// The page with so many bytes in use on its first GPU, in the page's own way of writing numbers.
pub(crate) fn with_used(page: &str, used: u64) -> String {
    let line = page.lines().find(|line| line.starts_with("nv_gpu_memory_used_bytes")).unwrap();
    let (series, value) = line.rsplit_once(' ').unwrap();
    let places = if value.contains('.') { ".000000" } else { "" };
    page.replace(line, &format!("{series} {used}{places}"))
}
