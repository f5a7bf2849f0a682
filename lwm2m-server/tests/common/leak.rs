//! Looks for parts of keys in what is written, in whatever form.

#![expect(clippy::unwrap_used, reason = "test")]

use std::collections::HashMap;

/// The bytes by which a form is found.
type Head = [u8; 6];

/// Keys that must not be seen.
#[derive(Default)]
pub(crate) struct Keys {
    by_head: HashMap<Head, Vec<(&'static str, Vec<u8>)>>,
}

impl Keys {
    /// Each six bytes of a key, in each form.
    pub(crate) fn add(&mut self, name: &'static str, key: &[u8]) {
        assert!(key.len() >= 16, "{name}");
        for form in forms(key) {
            let head = *form.first_chunk().unwrap();
            self.by_head.entry(head).or_default().push((name, form));
        }
    }

    /// The key of which a part is there, and that part.
    pub(crate) fn found(&self, output: &[u8]) -> Option<String> {
        (0..output.len()).find_map(|at| {
            let rest = output.get(at..)?;
            let forms = self.by_head.get(rest.first_chunk::<6>()?)?;
            let (name, form) = forms.iter().find(|(_, form)| rest.starts_with(form))?;
            Some(format!("{name}: {}", String::from_utf8_lossy(form)))
        })
    }
}

/// How six bytes of a key could be written.
pub(crate) fn forms(key: &[u8]) -> Vec<Vec<u8>> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut forms = Vec::new();
    for part in key.windows(6) {
        let decimal: Vec<String> = part.iter().map(u8::to_string).collect();
        let base64 = part.chunks_exact(3).flat_map(|three| {
            let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
            [18, 12, 6, 0].map(|shift| alphabet.get(bits >> shift & 0x3f).copied().unwrap())
        });
        let base64 = String::from_utf8(base64.collect()).unwrap();
        let url = base64.replace('+', "-").replace('/', "_");
        let (lower, upper) = (hex::encode(part), hex::encode_upper(part));
        let spaced = part.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
        forms.push(part.to_vec());
        forms.extend([lower, upper, base64, url].map(String::into_bytes));
        forms.extend([", ", ",", " "].map(|between| decimal.join(between).into_bytes()));
        forms.extend([" ", ":"].map(|between| spaced.join(between).into_bytes()));
    }
    forms
}
