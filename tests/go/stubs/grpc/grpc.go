// Package grpc declares what the documentation's client uses of the real one.
package grpc

import (
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// ClientConn is a channel.
type ClientConn struct{}

// DialOption is an option of NewClient.
type DialOption interface{}

// CallOption is an option of a call.
type CallOption interface{}

// NewClient opens a channel.
func NewClient(target string, opts ...DialOption) (*ClientConn, error) { return nil, nil }

// WithTransportCredentials says how to encrypt.
func WithTransportCredentials(credentials.TransportCredentials) DialOption { return nil }

// WithDefaultServiceConfig says how to call.
func WithDefaultServiceConfig(string) DialOption { return nil }

// WithKeepaliveParams says how to keep the connection alive.
func WithKeepaliveParams(keepalive.ClientParameters) DialOption { return nil }

// ServerStreamingClient is the client's side of a stream.
type ServerStreamingClient[Res any] interface {
	Recv() (*Res, error)
}
