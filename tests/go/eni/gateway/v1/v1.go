// Package v1 declares what protoc makes of the service, as far as the documentation's client uses it.
package v1

import (
	"context"

	"google.golang.org/grpc"
)

// AttachNetworkInterfaceRequest is the message of this name.
type AttachNetworkInterfaceRequest struct {
	InstanceId         string
	NetworkInterfaceId string
	RequestId          string
	ValidateOnly       bool
}

// AttachNetworkInterfaceResponse is the message of this name.
type AttachNetworkInterfaceResponse struct{}

// GetAttachment is its attachment.
func (*AttachNetworkInterfaceResponse) GetAttachment() *Attachment { return nil }

// Attachment is the message of this name.
type Attachment struct{}

// GetRevision is its revision.
func (*Attachment) GetRevision() uint64 { return 0 }

// WatchAttachmentRequest is the message of this name.
type WatchAttachmentRequest struct {
	InstanceId         string
	NetworkInterfaceId string
	AfterRevision      uint64
	Follow             bool
}

// WatchAttachmentResponse is the message of this name.
type WatchAttachmentResponse struct{}

// GetAttachment is its attachment, if it is one.
func (*WatchAttachmentResponse) GetAttachment() *Attachment { return nil }

// GetHeartbeat is its heartbeat, if it is one.
func (*WatchAttachmentResponse) GetHeartbeat() *Heartbeat { return nil }

// Heartbeat is the message of this name.
type Heartbeat struct{}

// GetRevision is the revision up to which everything was sent.
func (*Heartbeat) GetRevision() uint64 { return 0 }

// AttachmentServiceClient is the service's client.
type AttachmentServiceClient interface {
	AttachNetworkInterface(ctx context.Context, in *AttachNetworkInterfaceRequest, opts ...grpc.CallOption) (*AttachNetworkInterfaceResponse, error)
	WatchAttachment(ctx context.Context, in *WatchAttachmentRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[WatchAttachmentResponse], error)
}
