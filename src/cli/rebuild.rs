//! `rebuild`: throws the cache away and folds everything from the ledgers again.

use serde_json::json;

use super::args::Options;
use super::error::{CliError, Exit, Outcome};
use super::node::config_error;
use super::out;
use super::source::{Place, ServiceFile};
use crate::clock::monotonic;
use crate::config::Config;
use crate::sequencer::{Cache, Core, DataDir};

pub(crate) fn run(place: &Place, options: &Options) -> Outcome {
    if ServiceFile::running(&place.data).is_some() {
        return Err(CliError::new(
            Exit::Unreachable,
            "the service holds the directory; stop it first, rebuild, and start it again",
        ));
    }
    let began = monotonic();
    let config = Config::load(options.config.as_deref()).map_err(|error| config_error(&error))?;
    let data_dir = DataDir::open(&place.data)?;
    Cache::delete(&data_dir.root().join("cache"))?;
    let mut core = Core::open(data_dir, config.times())?;
    core.snapshot()?;
    let shared = core.shared();
    let governance = shared.governance();
    let slo =
        crate::domain::envelope::hex(&<sha2::Sha256 as sha2::Digest>::digest(serde_json::to_vec(&*shared.slo())?));
    let (size, digest, seconds) = (governance.size, governance.digest(), began.elapsed().as_secs_f64());
    if options.json {
        out::json(&json!({ "size": size, "governance_digest": digest, "slo_digest": slo, "seconds": seconds }));
    } else {
        out::line(format!("folded {size} governance entries again in {seconds:.1} s"));
        out::line(format!("state digests: governance {digest}, slo {slo}"));
    }
    Ok(Exit::Fine)
}
