// Attaches an ENI with the client of docs/clients.md, and prints its states until the end of the watch.
package main

import (
	"context"
	"fmt"
	"os"

	client "example.com/yours"
	pb "example.com/yours/eni/gateway/v1"
)

func run(target, instance, eni string) error {
	connection, err := client.Connect(target)
	if err != nil {
		return err
	}
	defer connection.Close()
	service := pb.NewAttachmentServiceClient(connection)
	ctx := context.Background()
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

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
