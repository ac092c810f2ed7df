//! A real S3-compatible server (versitygw) over a directory of the test, in which what it stores lies as plain files.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::guarded::Guarded;
use super::process::free_port;
use super::scratch::Scratch;
use super::wait::wait_for;

const LIMIT: Duration = Duration::from_mins(1);

/// An S3-compatible server with one bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    pub(crate) process: Guarded,
    command: PathBuf,
    port: u16,
    log: PathBuf,
    pub(crate) root: PathBuf,
}

impl S3 {
    pub(crate) fn start(command: PathBuf, scratch: &Scratch) -> Self {
        let (root, port) = (scratch.join("s3"), free_port());
        fs::create_dir_all(root.join("backups")).unwrap();
        let log = scratch.join("s3.log");
        let process = Self::spawn(&command, port, &root, &log);
        Self { process, command, port, log, root }
    }

    fn spawn(command: &Path, port: u16, root: &Path, log: &Path) -> Guarded {
        let mut versitygw = Command::new(command);
        versitygw.env("ROOT_ACCESS_KEY", "backup").env("ROOT_SECRET_KEY", "not-a-secret");
        versitygw.arg("--port").arg(format!("127.0.0.1:{port}")).arg("posix").arg(root);
        let process = Guarded::start(&versitygw, log);
        wait_for("the S3 server", LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok());
        process
    }

    pub(crate) fn start_again(&mut self) {
        self.process = Self::spawn(&self.command, self.port, &self.root, &self.log);
    }

    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("AWS_ACCESS_KEY_ID", "backup"),
            ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT", &endpoint),
            ("AWS_ALLOW_HTTP", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}
