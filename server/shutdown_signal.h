// SIGTERM, SIGINT and SIGUSR1 as something to poll.
#ifndef YOIO_SERVER_SHUTDOWN_SIGNAL_H_
#define YOIO_SERVER_SHUTDOWN_SIGNAL_H_

namespace yoio {

// From now on SIGTERM, SIGINT and SIGUSR1 are counted and do not end the process; SIGPIPE is ignored. Call it
// first in main. Blocking the signals and waiting for them would not do: libraries start threads before main,
// and any thread that does not block a signal may be the one to get it.
void CatchShutdownSignals();

// Sleeps for 20 ms or until a signal comes. Returns whether there is a SIGTERM or SIGINT that was not
// returned before. One thread only.
bool PollShutdownSignal();

// Whether SIGUSR1 has come since the last call. One thread only.
bool TakeDumpSignal();

}  // namespace yoio

#endif  // YOIO_SERVER_SHUTDOWN_SIGNAL_H_
