/* The table of foreign formats. Thread: any; constant. */
#include "engine/import/readers.h"

const struct foreign_format foreign_formats[] = {
    {"TensorFlow checkpoint", tensorflow_recognise, tensorflow_read},
    {"ml5 folder", ml5_recognise, ml5_read},
    {"safetensors", safetensors_recognise, safetensors_read},
    {"ONNX", onnx_recognise, onnx_read},
    {"PyTorch zip", torch_zip_recognise, torch_zip_read},
    {"PyTorch legacy", torch_legacy_recognise, torch_legacy_read},
    {"Keras HDF5", keras_h5_recognise, keras_h5_read},
    {"Keras 3", keras_zip_recognise, keras_zip_read},
    {"TensorFlow.js", tfjs_recognise, tfjs_read},
    {"Torch7", torch7_recognise, torch7_read},
};
const size_t foreign_format_count = sizeof foreign_formats / sizeof *foreign_formats;

const struct foreign_format *foreign_format_of(const struct source_file *file)
{
    for (size_t i = 0; i < foreign_format_count; i++) {
        if (foreign_formats[i].recognise(file)) {
            return &foreign_formats[i];
        }
    }
    return NULL;
}
