def source(config):
    raise NotImplementedError
