/* Strings of HDF5 attributes and datasets, fixed or variable length, as rows of a fixed width. For the two files of
 * this folder that speak HDF5. */
#pragma once
#include <hdf5.h>
#include <stdint.h>

/* Read up to `capacity` strings into texts[capacity][width], cut to the width and cleaned of control characters.
 * Return how many there are; 0 when there is no such attribute, when it holds no strings, or more than `capacity`. */
int32_t h5_strings_attribute(hid_t object, const char *name, char *texts, size_t width, int32_t capacity);
int32_t h5_strings_dataset(hid_t dataset, char *texts, size_t width, int32_t capacity);

/* Writes an attribute of variable-length UTF-8 strings: a scalar one for `scalar`, else a list. Negative on failure. */
herr_t h5_strings_attach(hid_t object, const char *name, const char *const *texts, int32_t count, int scalar);
