//go:build !amd64 || purego

package gcm

import "crypto/cipher"

const supported = false

func newKernel([]byte) cipher.AEAD { panic("gcm: there is no kernel for this machine") }
