"""From folders of images to pixels: what lies in a dataset, how it is decoded, how it is split."""
