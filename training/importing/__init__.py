"""Import a model that was trained elsewhere: open it, find out how it works, measure it, and publish it.

`sources` opens a file in one of four formats and `keras_file`, `saved_model_folder` and `onnx_file` read them;
`outputs` and `scalings` find out what a model's outputs mean and how it wants its pixels; `importer` publishes it.
Nothing here runs code from the imported file, except a Python file that the user names.
"""
