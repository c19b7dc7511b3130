// Runs a program as a person would and keeps what it wrote.
#ifndef YOIO_TESTS_CLIENT_RUN_COMMAND_H_
#define YOIO_TESTS_CLIENT_RUN_COMMAND_H_

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "base/check.h"

namespace yoio {

struct CommandResult {
  int exit_code = -1;  // 128 + signal if one ended it
  std::string out, err;
};

// Runs `arguments` (the program first) with `input` as standard input and waits for its end. `while_running`
// gets the process id once it has started. Output goes through temporary files, so that no pipe can fill.
inline CommandResult RunCommand(const std::vector<std::string>& arguments, const std::string& input = "",
                                const std::function<void(pid_t)>& while_running = {}) {
  const auto read_all = [](FILE* file) {
    std::string content;
    rewind(file);
    for (int c = fgetc(file); c != EOF; c = fgetc(file)) content += static_cast<char>(c);
    fclose(file);
    return content;
  };
  FILE *in = tmpfile(), *out = tmpfile(), *err = tmpfile();
  YOIO_CHECK(in != nullptr && out != nullptr && err != nullptr);
  fputs(input.c_str(), in);
  rewind(in);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  const pid_t pid = fork();
  YOIO_CHECK_GE(pid, 0);
  if (pid == 0) {
    dup2(fileno(in), STDIN_FILENO);
    dup2(fileno(out), STDOUT_FILENO);
    dup2(fileno(err), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  if (while_running) while_running(pid);
  int status = 0;
  YOIO_CHECK_EQ(waitpid(pid, &status, 0), pid);
  fclose(in);
  CommandResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = read_all(out);
  result.err = read_all(err);
  return result;
}

}  // namespace yoio

#endif  // YOIO_TESTS_CLIENT_RUN_COMMAND_H_
