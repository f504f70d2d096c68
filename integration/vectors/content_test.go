package vectors

import (
	"bytes"
	"crypto/sha3"
	"encoding/binary"
	"io"
	"path/filepath"
	"testing"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// gearTable is the table of section 8 for a chunker key.
func gearTable(key []byte) (table [256]uint64) {
	xof := sha3.NewSHAKE256()
	xof.Write(cat([]byte("stt v1 gear table"), key))
	for i := range table {
		var word [8]byte
		xof.Read(word[:])
		table[i] = binary.BigEndian.Uint64(word[:])
	}
	return table
}

// cutByContent returns the chunks of a file, whose average size is 2^log bytes.
func cutByContent(table *[256]uint64, log int, file []byte) (chunks [][]byte) {
	for len(file) > 0 {
		n, h := min(len(file), 4<<log), uint64(0)
		for i := 1 << log / 4; i < n; i++ {
			h = 2*h + table[file[i]]
			tested := log + 2
			if i >= 1<<log {
				tested = log - 2
			}
			if h<<1>>(64-tested) == 0 { // from bit 62 downwards
				n = i
			}
		}
		chunks, file = append(chunks, file[:n]), file[n:]
	}
	return chunks
}

func cutFixed(log int, file []byte) (chunks [][]byte) {
	for len(file) > 0 {
		n := min(len(file), 1<<log)
		chunks, file = append(chunks, file[:n]), file[n:]
	}
	return chunks
}

// cutRamp is cutFixed with a ramp in place of the first of several chunks.
func cutRamp(log int, file []byte) (chunks [][]byte) {
	if len(file) <= 1<<log {
		return [][]byte{file}
	}
	begin := 0
	for end := 4 << 10; end <= 1<<log; end *= 2 {
		chunks, begin = append(chunks, file[begin:end]), end
	}
	return append(chunks, cutFixed(log, file[begin:])...)
}

// fileRoot is the root node of a file of a few chunks, without a name and with
// mode 0644.
func fileRoot(chunker byte, log int, chunks [][]byte) []byte {
	var size uint64
	var sizes, hashes []byte
	for _, c := range chunks {
		size += uint64(len(c))
		sizes = append(sizes, varint(uint64(len(c)))...)
		hashes = append(hashes, hash(c)...)
	}
	node := cat([]byte("STM\x01"), []byte{1, 1, 0}, be16(0o644), []byte{0}, []byte{chunker, byte(log), 6}, varint(size))
	if chunker == 2 {
		node = cat(node, varint(uint64(len(chunks))), sizes)
	}
	return cat(node, hashes)
}

// contentVectors computes the vectors of section 8, and checks that a store
// makes the same of the same file.
func contentVectors(t *testing.T, s *section, shared []byte, net network) {
	t.Helper()
	file := make([]byte, 50_001)
	xof := sha3.NewSHAKE256()
	xof.Write([]byte("stt test file"))
	xof.Read(file)
	table := gearTable(net.chunker)
	store, err := content.Open(filepath.Join(t.TempDir(), "store"), content.Config{Key: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	s.add("chunker key", net.chunker)
	s.add("Gear[0] to Gear[3]", binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(
		binary.BigEndian.AppendUint64(nil, table[0]), table[1]), table[2]), table[3]))
	s.add("hash of the file, 50001 bytes of SHAKE256(\"stt test file\")", hash(file))
	for _, way := range []struct {
		title   string
		chunker content.Chunker
		log     int
		chunks  [][]byte
	}{
		{"chunks of 16 KiB", content.ChunkerFixed, 14, cutFixed(14, file)},
		{"chunks of 32 KiB behind a ramp", content.ChunkerRamp, 15, cutRamp(15, file)},
		{"chunks of 4 KiB on average", content.ChunkerCDC, 12, cutByContent(&table, 12, file)},
	} {
		root := fileRoot(byte(way.chunker), way.log, way.chunks)
		s.add("root node without a name, mode 644, "+way.title, root)
		s.add("its hash", hash(root))
		got, err := store.ImportReader(t.Context(), bytes.NewReader(file), content.ImportOptions{
			Chunker: way.chunker, ChunkSize: 1 << way.log, ChunkerKey: keyring(t, shared).ChunkerKey(),
		})
		if err != nil || got.Root != stc.Hash(hash(root)) {
			t.Errorf("%s: imported as %+v, %v", way.title, got, err)
		}
		if n, err := store.ExportTo(t.Context(), stc.Hash(hash(root)), io.Discard, nil); err != nil || n != uint64(len(file)) {
			t.Errorf("%s: exported %d bytes, %v", way.title, n, err)
		}
	}
}
