// The reactors of the calls that run through the engine: Generate, Score and GenerateOnce.
#ifndef YOIO_SERVER_GENERATE_REACTOR_H_
#define YOIO_SERVER_GENERATE_REACTOR_H_

#include <grpcpp/support/server_callback.h>

#include "server/call.h"

namespace yoio {

// Each starts the call and returns a reactor that deletes itself when gRPC is done with it. `core` outlives
// it.
grpc::ServerWriteReactor<v1::GenerateResponse>* StartGenerate(ServingCore& core,
                                                              grpc::CallbackServerContext& context,
                                                              const v1::GenerateRequest& request);
grpc::ServerWriteReactor<v1::ScoreResponse>* StartScore(ServingCore& core,
                                                        grpc::CallbackServerContext& context,
                                                        const v1::ScoreRequest& request);
grpc::ServerUnaryReactor* StartGenerateOnce(ServingCore& core, grpc::CallbackServerContext& context,
                                            const v1::GenerateOnceRequest& request,
                                            v1::GenerateOnceResponse& response);

}  // namespace yoio

#endif  // YOIO_SERVER_GENERATE_REACTOR_H_
