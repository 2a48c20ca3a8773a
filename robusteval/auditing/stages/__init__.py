"""The four kinds of stage: what each makes of one shard of images. Nothing is read or written here."""
