// Package codes declares what the documentation's client uses of the real one.
package codes

// Code is a canonical code.
type Code uint32

// Unavailable is the one that may be tried again.
const Unavailable Code = 14
