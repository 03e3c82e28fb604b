// Package status declares what the documentation's client uses of the real one.
package status

import "google.golang.org/grpc/codes"

// Status is a call's status.
type Status struct{}

// Details are its decoded details.
func (*Status) Details() []any { return nil }

// Convert reads a status from an error.
func Convert(error) *Status { return nil }

// Code is the code of an error.
func Code(error) codes.Code { return 0 }
