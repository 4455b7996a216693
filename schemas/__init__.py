"""JSON Schemas of the documents that mmbind writes, generated from mmbind_data.spec."""
