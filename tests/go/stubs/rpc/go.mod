module google.golang.org/genproto/googleapis/rpc

go 1.22
