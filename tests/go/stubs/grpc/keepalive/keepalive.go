// Package keepalive declares what the documentation's client uses of the real one.
package keepalive

import "time"

// ClientParameters say when to ping.
type ClientParameters struct {
	Time                time.Duration
	Timeout             time.Duration
	PermitWithoutStream bool
}
