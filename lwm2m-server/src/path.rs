//! A path of up to four ids.

/// A path of up to four ids; `/` is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Path {
    ids: [u16; 4],
    length: u8,
}

impl core::str::FromStr for Path {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut path = Self::default();
        for id in text.strip_prefix('/').ok_or(())?.split('/').filter(|id| !id.is_empty()) {
            *path.ids.get_mut(usize::from(path.length)).ok_or(())? = id.parse().map_err(|_| ())?;
            path.length = path.length.saturating_add(1);
        }
        Ok(path)
    }
}

impl core::fmt::Display for Path {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.length == 0 {
            return f.write_str("/");
        }
        self.ids.iter().take(usize::from(self.length)).try_for_each(|id| write!(f, "/{id}"))
    }
}
