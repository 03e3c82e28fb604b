// Package insecure declares what the documentation's client uses of the real one.
package insecure

import "google.golang.org/grpc/credentials"

// NewCredentials encrypt nothing.
func NewCredentials() credentials.TransportCredentials { return nil }
