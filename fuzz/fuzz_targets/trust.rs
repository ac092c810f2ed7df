#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| govledger_fuzz::trust(data));
