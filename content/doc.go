// Package content is the node's memory: a hash-addressed, encrypted store of blobs, the manifests that make files and
// directory trees of them, and the way in (import) and out (export).
//
// A blob is up to 1 MiB of bytes under their SHA3-256. A content is a manifest, itself blobs, and its name is the hash of the
// root manifest.
//
//	s, err := content.Open(dir, content.Config{Key: identity.StoreKey()})
//	result, err := s.Import(ctx, "film.mkv", content.ImportOptions{})     // result.Root is its name
//	f, err := s.OpenFile(root)                                            // or FS, Export
//	h, err := s.Put(ctx, blob)                                            // binary storage: see Storage
//	blob, err = s.Get(nil, h)
//
// Guarantees: what a call has acknowledged is on the disk and survives a crash at
// any moment; what is read has been compared with its hash, or is an error; the
// same bytes are stored once, and lie encrypted, but for files that are
// served in place. What is pinned stays until it is unpinned or removed; collecting
// the rest blocks neither reads nor writes. A full disk and a reached limit are
// errors of their own and harm nothing that is there. An export never writes
// outside of its target. docs/OPERATIONS.md says how that is tested.
//
// # Manifest nodes
//
// A node is one blob. There is one valid encoding of a node, and the decoder refuses every other. (v) is the variable-length
// integer of RFC 9000 section 16 in its shortest form; fixed integers are big-endian.
//
//	+--------+------+-------+-------+ - - - - - - - - - - - - - - - - - - +----------------+
//	| magic  | type | flags | level | mode (2) | name length (1) | name   | body           |
//	| STM 01 | (1)  | (1)   | (1)   |  only in a root: flags = 1          |                |
//	+--------+------+-------+-------+ - - - - - - - - - - - - - - - - - - +----------------+
//
// Level is the height above the leaves. Only the root of a content has a mode, nine permission bits, and a suggested name,
// which may be empty.
//
// Body of a file's node, type 1:
//
//	+-------------+---------------+-----------------+----------+------------------+
//	| chunker (1) | log2 of chunk | log2 of fan-out | size (v) | hashes (32 each) |
//	|  1: fixed   | size (1)      | (1)             |          |                  |
//	|  3: ramp    |               |                 |          |                  |
//	+-------------+---------------+-----------------+----------+------------------+
//
//	+-------------+---------------+-----------------+----------+------------+----------------+------------------+
//	| chunker (1) | log2 of aver- | log2 of fan-out | size (v) | chunks (v) | sizes (v each) | hashes (32 each) |
//	|  2: content | age size (1)  | (1)             |          |            |                |                  |
//	+-------------+---------------+-----------------+----------+------------+----------------+------------------+
//
// A leaf lists the hashes of chunks, a node above lists nodes. Every node but the last of its level is full, and the top's level
// is the lowest that can hold the file's chunks. Of chunker 1 every chunk but the file's last has the chunk size, so the number
// of hashes and the size below each follow from the size. Chunker 3 says the same of the nodes that begin a file of several chunks
// (those behind are of chunker 1), but for a ramp in place of the first chunk: 4 KiB, 4 KiB, and from there on each twice as long as
// the one before. It needs chunks of more than 4 KiB and a fan-out of 16 at least. Of chunker 2, whose borders follow from the content and a key, the
// node says both; a chunk has a quarter of the average size at least, the file's last excepted, and four times the average at
// most. An empty file has a node only as a root.
//
// Body of a directory's node, type 2:
//
//	+-------------+----------+------------+-------+
//	| entries (v) | size (v) | chunks (v) | items |
//	+-------------+----------+------------+-------+
//
// Items of a leaf are the entries, in the order of the bytes of their names; size and chunks count the data below:
//
//	name length (1) | name | 1 file      | mode (2) | size (v) | if size > 0: chunks (v) | hash (32)
//	name length (1) | name | 2 directory | mode (2) | size (v) | chunks (v) | hash (32)
//	name length (1) | name | 3 link      | target length (2) | target
//
// The hash of a file of one chunk is the chunk's, that of a longer one its top node's. Items of a node above the leaves are
//
//	name length (1) | first name below | size (v) | chunks (v) | hash (32)
//
// Every node but the last of its level has 512 items, and the number of items follows from the number of entries.
package content
