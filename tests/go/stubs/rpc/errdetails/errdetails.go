// Package errdetails declares what the documentation's client uses of the real one.
package errdetails

import "time"

// ErrorInfo is google.rpc.ErrorInfo.
type ErrorInfo struct{}

// GetReason is its reason.
func (*ErrorInfo) GetReason() string { return "" }

// RetryInfo is google.rpc.RetryInfo.
type RetryInfo struct{}

// GetRetryDelay is its delay.
func (*RetryInfo) GetRetryDelay() *Duration { return nil }

// Duration is google.protobuf.Duration.
type Duration struct{}

// AsDuration is its length.
func (*Duration) AsDuration() time.Duration { return 0 }
