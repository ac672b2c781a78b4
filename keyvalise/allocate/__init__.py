"""How many entries every kv head keeps."""
