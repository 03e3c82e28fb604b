// Package credentials declares what the documentation's client uses of the real one.
package credentials

// TransportCredentials encrypt a connection.
type TransportCredentials interface{}
