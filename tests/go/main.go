// Attaches an ENI with the client of docs/clients.md, and prints its states until the end of the watch. Attaches several
// ENIs as a batch, and watches all instances until those that were accepted are attached.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	client "example.com/yours"
	pb "example.com/yours/eni/gateway/v1"
)

func one(ctx context.Context, service pb.AttachmentServiceClient, instance, eni string) error {
	attachment, err := client.Attach(ctx, service, instance, eni)
	if err != nil {
		fmt.Println(client.Reason(err))
		return nil
	}
	fmt.Println("accepted", attachment.GetUid())
	return client.Watch(ctx, service, instance, eni, func(change *pb.Attachment) {
		fmt.Println(change.GetState())
	})
}

func batch(ctx context.Context, service pb.AttachmentServiceClient, instance string, enis []string) error {
	results, err := client.AttachAll(ctx, service, instance, enis)
	if err != nil {
		return err
	}
	accepted := 0
	for _, eni := range enis {
		result := results[eni]
		fmt.Println(eni, result.GetError().GetReason())
		if result.GetAttachment() != nil {
			accepted++
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = client.WatchFleet(ctx, service, "", func(fleet map[string]*pb.InstanceAttachments) {
		attached := 0
		for _, attachment := range fleet[instance].GetAttachments() {
			if attachment.GetState() == pb.Attachment_STATE_ATTACHED {
				attached++
			}
		}
		if attached == accepted {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Println("attached", accepted)
	return nil
}

func run(target, instance string, enis []string) error {
	connection, err := client.Connect(target)
	if err != nil {
		return err
	}
	defer connection.Close()
	service := pb.NewAttachmentServiceClient(connection)
	if len(enis) == 1 {
		return one(context.Background(), service, instance, enis[0])
	}
	return batch(context.Background(), service, instance, enis)
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
