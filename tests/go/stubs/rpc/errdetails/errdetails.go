// Package errdetails declares what the documentation's client uses of the real one.
package errdetails

// ErrorInfo is google.rpc.ErrorInfo.
type ErrorInfo struct{}

// GetReason is its reason.
func (*ErrorInfo) GetReason() string { return "" }
