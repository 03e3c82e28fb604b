module example.com/yours

go 1.22

require (
	github.com/google/uuid v0.0.0
	google.golang.org/genproto/googleapis/rpc v0.0.0
	google.golang.org/grpc v0.0.0
)

replace (
	github.com/google/uuid => ./stubs/uuid
	google.golang.org/genproto/googleapis/rpc => ./stubs/rpc
	google.golang.org/grpc => ./stubs/grpc
)
