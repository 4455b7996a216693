"""Convert, partition, bind and check multimodal sensor datasets.

Nothing is imported here, so that the command line answers at once. The functions lie where their
names say::

    from mmbind_data.convert import convert
    from mmbind_data.partition import partition
    from mmbind_data.binding import BindOptions, bind
    from mmbind_data.layout import open_store, open_bound
    from mmbind_data.validate import validate
    from mmbind_data.datasets import list_datasets, load_descriptor
"""
