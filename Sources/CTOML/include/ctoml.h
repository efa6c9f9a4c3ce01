#ifndef LIFEGUARD_CTOML_H
#define LIFEGUARD_CTOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* toml++ behind a C interface: a TOML text becomes a flat list of values, each with its line and column. */

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ctoml_kind {
  CTOML_TABLE = 0,
  CTOML_ARRAY = 1,
  CTOML_STRING = 2,
  CTOML_INTEGER = 3,
  CTOML_REAL = 4,
  CTOML_BOOLEAN = 5,
  CTOML_DATE_OR_TIME = 6
} ctoml_kind;

/*
 * One value, in pre-order: the members of a table or an array follow it, one level deeper. A table's members come
 * sorted by key, not as written. Lines and columns count from 1; a column is a code point. Strings are UTF-8, not
 * ended by a NUL (they may contain one), and live as long as their document.
 */
typedef struct ctoml_entry {
  ctoml_kind kind;
  uint32_t depth; /* 0: a member of the document's own table */
  const char *key; /* NULL: a member of an array */
  size_t key_length;
  uint32_t key_line;
  uint32_t key_column;
  uint32_t line;
  uint32_t column;
  const char *string;
  size_t string_length;
  int64_t integer;
  double real;
  bool boolean;
} ctoml_entry;

typedef struct ctoml_document ctoml_document;

/* Never throws. NULL: out of memory. Everything else, a broken text too, gives a document to free. */
ctoml_document *ctoml_parse(const char *text, size_t length);
void ctoml_free(ctoml_document *document);

/* What is wrong with the text, or NULL where it is TOML. The position is written only with an error. */
const char *ctoml_error(const ctoml_document *document, uint32_t *line, uint32_t *column);

size_t ctoml_count(const ctoml_document *document);

/* The index must be below the count. */
const ctoml_entry *ctoml_entry_at(const ctoml_document *document, size_t index);

#ifdef __cplusplus
}
#endif

#endif
