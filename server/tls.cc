#include "server/tls.h"

#include <grpc/grpc_security.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "server/secret_file.h"

namespace yoio {
namespace {

constexpr size_t kMaxFileBytes = 4 << 20;

struct Deleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <typename T>
using Owned = std::unique_ptr<T, Deleter>;

Owned<BIO> Reading(const std::string& text) {
  return Owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// An encrypted key is an error, not a question on the terminal.
int NoPassword(char*, int, int, void*) { return -1; }

// The certificates in `pem`, one or more.
absl::StatusOr<std::vector<Owned<X509>>> ParseCertificates(const std::string& pem, const std::string& path) {
  std::vector<Owned<X509>> certificates;
  const Owned<BIO> bio = Reading(pem);
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(next);
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (certificates.empty() || !at_end) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected certificates in PEM"));
  }
  return certificates;
}

absl::Status CheckIdentity(const TlsFiles& files, const TlsMaterial& material) {
  YOIO_ASSIGN_OR_RETURN(const auto chain, ParseCertificates(material.certificate, files.certificate));
  const Owned<BIO> bio = Reading(material.key);
  const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  const bool fits = key != nullptr && X509_check_private_key(chain.front().get(), key.get()) == 1;
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.key, ": expected a private key in PEM, not encrypted"));
  }
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.key, ": not the key of the certificate in ", files.certificate));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(chain.front().get())) < 0) {
    return absl::InvalidArgumentError(absl::StrCat(files.certificate, ": the certificate has expired"));
  }
  return absl::OkStatus();
}

grpc_ssl_certificate_config_reload_status FeedConfig(void* user_data,
                                                     grpc_ssl_server_certificate_config** config) {
  auto& feed = *static_cast<ServerTls::Feed*>(user_data);
  std::shared_ptr<const TlsMaterial> current = feed.source.current();
  MutexLock lock(feed.mutex);
  if (current == feed.given) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair{.private_key = current->key.c_str(),
                                        .cert_chain = current->certificate.c_str()};
  // gRPC wants some authority even where it asks no client for a certificate.
  const std::string& ca = current->ca.empty() ? current->certificate : current->ca;
  *config = grpc_ssl_server_certificate_config_create(ca.c_str(), &pair, 1);
  feed.given = std::move(current);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

}  // namespace

absl::StatusOr<TlsMaterial> ReadTls(const TlsFiles& files) {
  TlsMaterial material;
  YOIO_ASSIGN_OR_RETURN(material.certificate, ReadSecretFile(files.certificate, kMaxFileBytes));
  YOIO_ASSIGN_OR_RETURN(material.key, ReadSecretFile(files.key, kMaxFileBytes));
  YOIO_RETURN_IF_ERROR(CheckIdentity(files, material));
  if (!files.ca.empty()) {
    YOIO_ASSIGN_OR_RETURN(material.ca, ReadSecretFile(files.ca, kMaxFileBytes));
    YOIO_RETURN_IF_ERROR(ParseCertificates(material.ca, files.ca).status());
  }
  return material;
}

absl::StatusOr<std::unique_ptr<ServerTls>> ServerTls::Open(const std::string& flag, const TlsFiles& files,
                                                           const Logger& log, Duration interval) {
  std::vector<std::string> paths = {files.certificate, files.key};
  if (!files.ca.empty()) paths.push_back(files.ca);
  YOIO_ASSIGN_OR_RETURN(auto material,
                        Reloaded<TlsMaterial>::Open(
                            flag, std::move(paths), [files] { return ReadTls(files); }, log, interval));
  return std::unique_ptr<ServerTls>(new ServerTls(std::move(material), !files.ca.empty()));
}

// gRPC asks for the certificate at each handshake, and keeps the one it has when it cannot use a new one.
grpc_server_credentials* ServerTls::MakeCredentials() {
  const auto request = verifies_clients_ ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                         : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
  Feed& feed = feeds_.emplace_back(*material_);
  grpc_server_credentials* credentials = grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(request, FeedConfig, &feed));
  YOIO_CHECK(credentials != nullptr);
  return credentials;
}

}  // namespace yoio
