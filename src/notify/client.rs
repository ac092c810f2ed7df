//! One POST to somebody outside, bounded in time, without redirects, and never to an address that is not allowed.
//!
//! The address is checked where it is resolved for the connection itself, so a name that changes its address between a
//! check and the connection gains nothing. A proxy of the environment is not used: it would connect where we do not look.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// How long a receiver may take. The Standard Webhooks specification names 15 to 30 seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// What is read of an answer.
const REASON_BYTES_MAX: u64 = 64 << 10;
/// What is kept of it.
const REASON_CHARS_MAX: usize = 300;

/// What came of a POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// A status below 300.
    Taken,
    /// Another status.
    Refused {
        /// The status.
        status: u16,
        /// `retry-after`, as it came.
        retry_after: Option<String>,
        /// The beginning of the body.
        reason: String,
    },
    /// No answer.
    Failed(String),
}

/// Posts to one endpoint.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    /// A client of `url`; without `allow_private` an address of this machine or its network is not connected to.
    pub(super) fn new(url: String, allow_private: bool) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("govledger/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .build();
        let resolver = Checked { inner: DefaultResolver::default(), allow_private };
        Self { agent: ureq::Agent::with_parts(config, DefaultConnector::default(), resolver), url }
    }

    /// Posts JSON.
    pub(super) fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Sent {
        match self.exchange("application/json", headers, body) {
            Err(error) => Sent::Failed(error),
            Ok(answer) if (200..300).contains(&answer.status) => Sent::Taken,
            Ok(answer) => {
                let reason = answer.reason();
                Sent::Refused { status: answer.status, retry_after: answer.retry_after, reason }
            }
        }
    }

    /// Posts a body of any kind; the whole answer, or why there is none.
    pub(super) fn exchange(
        &self,
        content_type: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answered, String> {
        let mut request = self.agent.post(&self.url).header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body).map_err(|error| error.to_string())?;
        let body = response.body_mut().with_config().limit(REASON_BYTES_MAX).read_to_string().unwrap_or_default();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, retry_after) = (header("content-type"), header("retry-after"));
        Ok(Answered { status: response.status().as_u16(), content_type, retry_after, body })
    }
}

/// An answer, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    /// The status.
    pub(super) status: u16,
    /// What kind of body it says that it has.
    pub(super) content_type: Option<String>,
    /// `retry-after`, as it came.
    pub(super) retry_after: Option<String>,
    /// The body; nothing where it is no text, or a long one.
    pub(super) body: String,
}

impl Answered {
    /// The beginning of the body, for people.
    pub(super) fn reason(&self) -> String {
        self.body.chars().take(REASON_CHARS_MAX).collect()
    }
}

/// Resolves names, and keeps the addresses that may be connected to.
#[derive(Debug)]
struct Checked {
    inner: DefaultResolver,
    allow_private: bool,
}

impl Resolver for Checked {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.allow_private {
            return Ok(found);
        }
        let mut allowed = self.empty();
        found.iter().filter(|address| is_public(address.ip())).for_each(|address| allowed.push(*address));
        if allowed.is_empty() {
            let host = uri.host().unwrap_or_default();
            return Err(ureq::Error::Other(
                format!("{host} has only private addresses, which are refused without allow_private = true").into(),
            ));
        }
        Ok(allowed)
    }
}

/// Whether an address is one of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| is_public_v6(v6), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || (a == 100 && (64..128).contains(&b)) // shared by carriers
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)) // benchmarks
        || a >= 240;
    !(special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// Global unicast is `2000::/3`; of it, documentation and the protocol ranges (with Teredo) are nobody's.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let reserved = segments[0] == 0x2001 && (segments[1] < 0x200 || segments[1] == 0xdb8);
    (0x2000..0x4000).contains(&segments[0]) && !reserved
}

/// The address of version 4 behind one of version 6: mapped, translated (NAT64) or tunnelled (6to4).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let joined = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(joined(high, low)),
        _ => address.to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "224.0.0.1",
            "255.255.255.255",
            "2001:db8::1",
            "::",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_private_address_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let sent = Client::new(format!("http://{host}:{port}/"), false).post(&[], b"{}");
            assert!(matches!(&sent, Sent::Failed(reason) if reason.contains("allow_private")), "{sent:?}");
        }
        assert!(listener.accept().is_err(), "nobody connected");
    }
}
