//go:build !amd64 || purego

package stc

const chachaAllocates = true
