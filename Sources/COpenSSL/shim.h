#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

/* What OpenSSL declares as macros, which Swift does not import. */

static const uint64_t lifeguard_ssl_op_no_renegotiation = SSL_OP_NO_RENEGOTIATION;
static const uint64_t lifeguard_ssl_op_no_compression = SSL_OP_NO_COMPRESSION;
static const uint64_t lifeguard_ssl_op_no_ticket = SSL_OP_NO_TICKET;
static const uint64_t lifeguard_ssl_op_cipher_server_preference = SSL_OP_CIPHER_SERVER_PREFERENCE;

static inline long lifeguard_ssl_ctx_set_mode(SSL_CTX *context, long mode) {
  return SSL_CTX_set_mode(context, mode);
}

static inline long lifeguard_ssl_set_mode(SSL *ssl, long mode) { return SSL_set_mode(ssl, mode); }

static inline int lifeguard_ssl_ctx_set_min_proto_version(SSL_CTX *context, int version) {
  return SSL_CTX_set_min_proto_version(context, version);
}

static inline int lifeguard_ssl_ctx_set_max_proto_version(SSL_CTX *context, int version) {
  return SSL_CTX_set_max_proto_version(context, version);
}

static inline long lifeguard_ssl_ctx_set_session_cache_mode(SSL_CTX *context, long mode) {
  return SSL_CTX_set_session_cache_mode(context, mode);
}

static inline void lifeguard_bio_set_retry_read(BIO *bio) { BIO_set_retry_read(bio); }

static inline void lifeguard_bio_clear_retry_flags(BIO *bio) { BIO_clear_retry_flags(bio); }
