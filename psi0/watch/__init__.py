"""For people: episodes to watch and drive, pictures, one recorded episode on a page. No result depends on this room."""
