//! Names and widths of tiles (C2SP tlog-tiles): pure text and arithmetic.
//!
//! A tile is up to 256 hashes of every eighth level of the tree; an entry bundle is up to 256 entries.
//! Which of them exist follows from the size alone.

use std::{fmt, str::FromStr};

use crate::checkpoint::parse_decimal;

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the tree that one tile spans.
pub const TILE_HEIGHT: u8 = 8;
/// Tile levels that a tree of up to 2^64 leaves can have.
pub const LEVELS_MAX: u8 = 8;

/// A text that names no tile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the path of a tile")]
pub struct TilePathError(pub String);

/// What is in a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of a tile level.
    Hashes(u8),
    /// Entries, each with its length in front.
    Entries,
}

impl TileKind {
    /// How many hashes (or entries) the level has at a size.
    pub fn count(self, size: u64) -> u64 {
        match self {
            Self::Hashes(level) => {
                let shift = u32::from(level) * u32::from(TILE_HEIGHT);
                size.checked_shr(shift).unwrap_or(0)
            }
            Self::Entries => size,
        }
    }
}

/// The path of a tile or entry bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    /// Hashes of which level, or entries.
    pub kind: TileKind,
    /// Which tile of its level.
    pub index: u64,
    /// How many hashes or entries: 1 to 256, 256 being the full tile.
    pub width: u16,
}

impl TilePath {
    /// Reads a path like `tile/0/x001/067` or `tile/entries/000.p/17`.
    pub fn parse(text: &str) -> Result<Self, TilePathError> {
        text.parse()
    }

    /// The path of the tile as it is at `size`, or nothing where it has no width then.
    pub fn at_size(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let start = index.checked_mul(TILE_WIDTH)?;
        let left = kind.count(size).checked_sub(start)?.min(TILE_WIDTH);
        let width = u16::try_from(left).ok().filter(|width| *width > 0)?;
        Some(Self { kind, index, width })
    }

    /// Whether the tile is full.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// Whether some size up to `size` has this tile at this width.
    pub fn exists_at(&self, size: u64) -> bool {
        Self::at_size(self.kind, self.index, size).is_some_and(|whole| whole.width >= self.width)
    }

    /// Every tile and bundle of a tree of `size` entries: levels from the leaves up, then the bundles.
    pub fn all_at(size: u64) -> impl Iterator<Item = Self> {
        let levels = (0..LEVELS_MAX).map(TileKind::Hashes).chain([TileKind::Entries]);
        levels.flat_map(move |kind| {
            let tiles = kind.count(size).div_ceil(TILE_WIDTH);
            (0..tiles).filter_map(move |index| Self::at_size(kind, index, size))
        })
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(formatter, "tile/{level}/")?,
            TileKind::Entries => formatter.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups.iter().skip(1).rev() {
            write!(formatter, "x{group:03}/")?;
        }
        write!(formatter, "{:03}", groups[0])?;
        if !self.is_full() {
            write!(formatter, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = TilePathError;

    fn from_str(text: &str) -> Result<Self, TilePathError> {
        let path = parse(text).ok_or_else(|| TilePathError(text.to_owned()))?;
        // One tile has one path: `x000/001` and the like name none.
        if path.to_string() == text { Ok(path) } else { Err(TilePathError(text.to_owned())) }
    }
}

fn parse(text: &str) -> Option<TilePath> {
    let (level, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let kind = if level == "entries" {
        TileKind::Entries
    } else {
        TileKind::Hashes(parse_decimal(level)?.try_into().ok().filter(|level| *level < 64)?)
    };
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, u16::try_from(parse_decimal(width)?).ok()?),
        None => (rest, 256),
    };
    // A partial tile has 1 to 255; the full one says no width.
    if width == 0 || width > 256 || (width == 256 && rest.contains(".p/")) {
        return None;
    }
    let mut index = 0_u64;
    let mut groups = number.split('/').peekable();
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(TilePath { kind, index, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: TilePath, text: &str) {
        assert_eq!(path.to_string(), text);
        assert_eq!(text.parse(), Ok(path));
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let hashes = |level, index, width| TilePath { kind: TileKind::Hashes(level), index, width };
        check(hashes(0, 1_234_067, 256), "tile/0/x001/x234/067");
        check(hashes(0, 273, 112), "tile/0/273.p/112");
        check(hashes(2, 0, 1), "tile/2/000.p/1");
        check(TilePath { kind: TileKind::Entries, index: 1_000, width: 256 }, "tile/entries/x001/000");
        check(
            TilePath { kind: TileKind::Entries, index: u64::MAX / 256, width: 3 },
            "tile/entries/x072/x057/x594/x037/x927/935.p/3",
        );
    }

    #[test]
    fn other_texts_name_no_tile() {
        for text in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/1",
            "tile/0/0001",
            "tile/0/001.p/0",
            "tile/0/001.p/256",
            "tile/0/001.p/01",
            "tile/0/001.p",
            "tile/0/x001",
            "tile/0/x000/001",
            "tile/0/001/001",
            "tile/00/001",
            "tile/64/001",
            "tile/-1/001",
            "tile/0/+01",
            "tile/entry/001",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "/tile/0/001",
            "tile/0/001.p/5.p/5",
        ] {
            assert_eq!(TilePath::parse(text), Err(TilePathError(text.into())));
        }
    }

    #[test]
    fn widths_follow_from_the_size() {
        let tiles = |kind, size| {
            let of_kind: Vec<_> = TilePath::all_at(size).filter(|path| path.kind == kind).collect();
            (of_kind.iter().filter(|path| path.is_full()).count(), of_kind.last().map_or(0, |path| path.width))
        };
        assert_eq!(tiles(TileKind::Hashes(0), 70_000), (273, 112));
        assert_eq!(tiles(TileKind::Hashes(1), 70_000), (1, 17));
        assert_eq!(tiles(TileKind::Hashes(2), 70_000), (0, 1));
        assert_eq!(tiles(TileKind::Hashes(3), 70_000), (0, 0));
        assert_eq!(tiles(TileKind::Entries, 70_000), (273, 112));
        assert_eq!(tiles(TileKind::Hashes(0), 256), (1, 256));
        assert_eq!(tiles(TileKind::Hashes(1), 256), (0, 1));
        assert_eq!(TilePath::all_at(0).count(), 0);
        assert_eq!(TileKind::Hashes(63).count(u64::MAX), 0);
    }

    #[test]
    fn a_partial_tile_exists_from_its_width_on() {
        let path = TilePath::parse("tile/0/001.p/4").unwrap();
        assert!(!path.exists_at(259));
        assert!(path.exists_at(260));
        assert!(path.exists_at(10_000));
    }
}
