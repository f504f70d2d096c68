// Package vectors checks docs/PROTOCOL.md with a second implementation of it, which only its tests hold:
//
//	go test ./integration/vectors            compares docs/vectors.json, the reference and the node's packages
//	go test ./integration/vectors -update    writes docs/vectors.json
package vectors
