#include "server/cut_off.h"

#include <grpc/grpc.h>
#include <grpcpp/server_context.h>

#include <memory>

#include "server/grpc_server.h"

namespace yoio {

void CutOff::Start(grpc::CallbackServerContext& context, Duration patience) {
  // The alarm may go off while the reactor and the context die: it has a share of the call itself.
  grpc_call_ref(context.c_call());
  const std::shared_ptr<grpc_call> call(context.c_call(), grpc_call_unref);
  alarm_.emplace().Set(After(patience), [call](bool due) {
    if (due) grpc_call_cancel(call.get(), nullptr);
  });
}

}  // namespace yoio
