#include "engine/comm/communicator.h"

#include "base/check.h"
#include "base/status.h"

namespace yoio {

absl::Status Communicator::AllReduceResidualNorm(const kernels::ResidualRmsNormArgs& args,
                                                 kernels::Activation* delta, kernels::Backend& backend,
                                                 kernels::Stream& stream) {
  YOIO_CHECK_EQ(args.delta, delta) << "the sum must be what the norm reads";
  const size_t count = static_cast<size_t>(args.num_rows) * args.hidden;
  YOIO_RETURN_IF_ERROR(AllReduce(delta, count, backend.activation_type(), stream));
  backend.ResidualRmsNorm(args, stream);
  return absl::OkStatus();
}

}  // namespace yoio
