// Command walker checks a static tlog-tiles export with Go's own transparency-log packages, which share no code with
// govledger: the checkpoint's signature against a verifier key, every hash of every tile up to the signed root, and
// every entry of every bundle against its leaf hash.
//
//	walker -vkey FILE DIR
//
// Prints one line and exits 0 where all holds, 1 where something does not, 2 on usage.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

func main() {
	vkeyFile := flag.String("vkey", "", "file with the ledger's verifier key, one line")
	flag.Parse()
	if *vkeyFile == "" || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: walker -vkey FILE DIR")
		os.Exit(2)
	}
	origin, tree, err := walk(flag.Arg(0), *vkeyFile)
	if err != nil {
		fmt.Fprintf(os.Stderr, "walker: %s: %v\n", flag.Arg(0), err)
		os.Exit(1)
	}
	fmt.Printf("ok %s size %d root %s\n", origin, tree.N, tree.Hash)
}

func walk(dir, vkeyFile string) (string, tlog.Tree, error) {
	origin, tree, err := readCheckpoint(dir, vkeyFile)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	if tree.N == 0 {
		empty, err := tlog.TreeHash(0, nil)
		if err != nil || empty != tree.Hash {
			return "", tree, fmt.Errorf("root of the empty tree is %s, not %s", tree.Hash, empty)
		}
		return origin, tree, nil
	}
	export := &exportDir{dir: dir, seen: map[tlog.Tile][]byte{}}
	if err := checkParents(export, tree.N); err != nil {
		return "", tree, err
	}
	hashes := tlog.TileHashReader(tree, export)
	for first := int64(0); first < tree.N; first += tileWidth {
		width := min(tileWidth, tree.N-first)
		if err := checkBundle(dir, hashes, first, int(width)); err != nil {
			return "", tree, err
		}
	}
	return origin, tree, nil
}

// readCheckpoint opens the signed note and reads its three lines: origin, size, root.
func readCheckpoint(dir, vkeyFile string) (string, tlog.Tree, error) {
	vkey, err := os.ReadFile(vkeyFile)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return "", tlog.Tree{}, fmt.Errorf("%s: %w", vkeyFile, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return "", tlog.Tree{}, err
	}
	signed, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint: origin is %q, the key's name %q", lines[0], verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint: %q is no size", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint: %q is no root", lines[2])
	}
	return lines[0], tlog.Tree{N: size, Hash: tlog.Hash(root)}, nil
}

// checkParents computes the hash of every full tile and looks for it in the tile above. TileHashReader is not enough: it
// takes some of the tiles that it reads unchecked where several subtrees of the right edge lie in one tile.
func checkParents(export *exportDir, size int64) error {
	for level := 0; size>>(tileHeight*(level+1)) > 0; level++ {
		above := size >> (tileHeight * (level + 1))
		for n := range above {
			first := n &^ (tileWidth - 1)
			child := tlog.Tile{H: tileHeight, L: level, N: n, W: tileWidth}
			parent := tlog.Tile{H: tileHeight, L: level + 1, N: n / tileWidth, W: int(min(tileWidth, above-first))}
			data, err := export.ReadTiles([]tlog.Tile{child, parent})
			if err != nil {
				return err
			}
			index := tlog.StoredHashIndex(tileHeight*(level+1), n)
			listed, err := tlog.HashFromTile(parent, data[1], index)
			if err != nil {
				return err
			}
			if fullTileHash(data[0]) != listed {
				return fmt.Errorf("%s does not have the hash that %s lists", tilePath(child), tilePath(parent))
			}
		}
	}
	return nil
}

// fullTileHash folds the 256 hashes of a full tile pairwise to the one hash above them.
func fullTileHash(data []byte) tlog.Hash {
	hashes := make([]tlog.Hash, tileWidth)
	for i := range hashes {
		hashes[i] = tlog.Hash(data[i*tlog.HashSize:][:tlog.HashSize])
	}
	for len(hashes) > 1 {
		for i := range len(hashes) / 2 {
			hashes[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
		}
		hashes = hashes[:len(hashes)/2]
	}
	return hashes[0]
}

// checkBundle compares the entries first … first+width-1 with leaf hashes that the reader has proved to be in the tree.
func checkBundle(dir string, hashes tlog.HashReader, first int64, width int) error {
	indexes := make([]int64, width)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
	}
	leaves, err := hashes.ReadHashes(indexes)
	if err != nil {
		return fmt.Errorf("hashes of entries %d and following: %w", first, err)
	}
	tile := tlog.Tile{H: tileHeight, L: -1, N: first / tileWidth, W: width}
	path := tilePath(tile)
	bundle, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
			return fmt.Errorf("%s: ends within entry %d", path, first+int64(i))
		}
		length := int(binary.BigEndian.Uint16(bundle))
		if tlog.RecordHash(bundle[2:2+length]) != leaf {
			return fmt.Errorf("%s: entry %d does not have its leaf hash", path, first+int64(i))
		}
		bundle = bundle[2+length:]
	}
	if len(bundle) != 0 {
		return fmt.Errorf("%s: %d bytes after its last entry", path, len(bundle))
	}
	return nil
}

// tilePath is the tlog-tiles path of a tile: the checksum database's, without the height, and with "entries" for "data".
func tilePath(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tile.H))
	if rest, isData := strings.CutPrefix(path, "data/"); isData {
		path = "entries/" + rest
	}
	return filepath.FromSlash("tile/" + path)
}

// exportDir reads tiles from the export; tiles above the leaves are read once.
type exportDir struct {
	dir  string
	seen map[tlog.Tile][]byte
}

func (e *exportDir) Height() int { return tileHeight }

func (e *exportDir) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(tiles))
	for i, tile := range tiles {
		if data, ok := e.seen[tile]; ok {
			all[i] = data
			continue
		}
		data, err := e.readTile(tile)
		if err != nil {
			return nil, err
		}
		if tile.L > 0 {
			e.seen[tile] = data
		}
		all[i] = data
	}
	return all, nil
}

// readTile reads a tile of exactly its width. A partial tile may stand in the export as the full tile it has become since.
func (e *exportDir) readTile(tile tlog.Tile) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(e.dir, tilePath(tile)))
	if errors.Is(err, os.ErrNotExist) && tile.W < tileWidth {
		full := tile
		full.W = tileWidth
		if data, err = os.ReadFile(filepath.Join(e.dir, tilePath(full))); err == nil && len(data) == tileWidth*tlog.HashSize {
			return bytes.Clone(data[:tile.W*tlog.HashSize]), nil
		}
	}
	if err != nil {
		return nil, err
	}
	if len(data) != tile.W*tlog.HashSize {
		return nil, fmt.Errorf("%s holds %d bytes, not %d", tilePath(tile), len(data), tile.W*tlog.HashSize)
	}
	return data, nil
}

// SaveTiles has nothing to keep: the export is the cache.
func (e *exportDir) SaveTiles([]tlog.Tile, [][]byte) {}
