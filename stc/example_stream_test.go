package stc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/seigr/sttnode/stc"
)

// A live stream over a transport that loses, repeats and reorders: who holds the network's seed reads it, in order.
func ExampleStreamEncoder() {
	keys, err := stc.NewKeyring(bytes.Repeat([]byte("s"), 32)) // seeds come from a random source
	if err != nil {
		panic(err)
	}
	encoder, _ := stc.NewStreamEncoder(keys.StreamKey("camera 1"), stc.StreamConfig{SegmentSize: 64})
	decoder, _ := stc.NewStreamDecoder(keys.StreamKey("camera 1"), stc.StreamDecoderConfig{Stream: encoder.ID()})

	var network [][]byte
	for segment, err := range encoder.Segments(bytes.NewReader(bytes.Repeat([]byte("picture\n"), 3))) {
		if err != nil {
			panic(err)
		}
		network = append(network, bytes.Clone(segment))
	}
	network[0], network[1] = network[1], network[0]

	for _, segment := range append(network, network[0]) {
		if err := decoder.Receive(segment); errors.Is(err, stc.ErrDuplicate) {
			fmt.Println("had that one")
		}
		for {
			p, err := decoder.Next()
			if err != nil {
				break
			}
			fmt.Printf("%s", p)
		}
	}
	fmt.Println("complete:", decoder.Finish() == nil)
	// Output:
	// picture
	// picture
	// picture
	// had that one
	// complete: true
}

// A file of a known size, sealed into a buffer and read back. A copy that was cut off is noticed.
func ExampleStreamReader() {
	var key [32]byte // as from Identity.DeriveKey
	text := []byte("to whom it may concern")

	encoder, _ := stc.NewStreamEncoder(key, stc.StreamConfig{Mode: stc.StreamBounded, Size: uint64(len(text)), SegmentSize: 64})
	var file bytes.Buffer
	w := stc.NewStreamWriter(&file, encoder)
	if _, err := w.Write(text); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}

	for _, copied := range [][]byte{file.Bytes(), file.Bytes()[:64]} {
		decoder, _ := stc.NewStreamDecoder(key, stc.StreamDecoderConfig{})
		got, err := io.ReadAll(stc.NewStreamReader(bytes.NewReader(copied), decoder))
		fmt.Printf("%q, truncated: %v\n", got, errors.Is(err, stc.ErrTruncated))
	}
	// Output:
	// "to whom it may concern", truncated: false
	// "to whom ", truncated: true
}
