#!/bin/sh
# Generates Java and Go stubs with the distribution's own plugins and checks that packages, classes and
# methods come out under the names that callers use.
#
#   stubs_test.sh PROTO_DIR
set -eu

proto_dir=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

fail() {
  echo "stubs_test: $1" >&2
  exit 1
}

for tool in protoc protoc-gen-go protoc-gen-go-grpc grpc_java_plugin; do
  command -v "$tool" >/dev/null || fail "$tool is missing; run scripts/install_packages.sh test"
done

# Succeeds when FILE exists and holds TEXT.
expect() {
  [ -f "$out/$1" ] || fail "$1 was not generated"
  grep -qF "$2" "$out/$1" || fail "$1 does not hold: $2"
}

cd "$proto_dir"
mkdir "$out/java" "$out/go"
protoc -I . --java_out="$out/java" \
  --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" --grpc-java_out="$out/java" yoio/v1/*.proto
protoc -I . --go_out="$out/go" --go-grpc_out="$out/go" yoio/v1/*.proto

java=java/io/yoio/v1
expect $java/GenerateRequest.java "package io.yoio.v1;"
expect $java/GenerateRequest.java "public boolean hasTimeBudget()"
expect $java/SamplingOptions.java "public boolean hasTemperature()"
expect $java/GenerateResponse.java "SUMMARY(5)"
expect $java/ErrorReason.java "ERROR_REASON_QUEUE_FULL"
expect $java/InferenceServiceGrpc.java 'SERVICE_NAME = "yoio.v1.InferenceService"'
expect $java/InferenceServiceGrpc.java "java.util.Iterator<io.yoio.v1.GenerateResponse> generate("
expect $java/InferenceServiceGrpc.java "io.yoio.v1.AbortResponse abort("
expect $java/AdminServiceGrpc.java 'SERVICE_NAME = "yoio.v1.AdminService"'

go=go/github.com/yoio/yoio/gen/go/yoio/v1
expect $go/request.pb.go "package yoiov1"
expect $go/request.pb.go "func (x *SamplingOptions) GetTemperature() float32"
expect $go/event.pb.go "type GenerateResponse_Summary struct"
expect $go/errors.pb.go "ErrorReason_ERROR_REASON_QUEUE_FULL"
expect $go/inference_grpc.pb.go "func NewInferenceServiceClient("
expect $go/inference_grpc.pb.go "InferenceService_GenerateClient"
expect $go/admin_grpc.pb.go "func NewAdminServiceClient("
