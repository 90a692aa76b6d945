"""The networks themselves, one file for each family; how they are trained is `training.recipes`' part."""
